"""The programs in ``examples/`` do what they are there to show.

What those for a framework print is taken from the pages that show it. ``tests/package`` runs them
and compares.
"""

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def pairs(printed: str) -> list[tuple[str, str]]:
    """The pairs around the bar of each line that has one."""
    lines = [line.split(" | ", 1) for line in printed.splitlines() if " | " in line]
    return [(left.strip(), right) for left, right in lines]


def run_example(name: str, capsys: pytest.CaptureFixture[str]) -> list[tuple[str, str]]:
    runpy.run_path(str(ROOT / "examples" / f"{name}.py"), run_name="__main__")
    return pairs(capsys.readouterr().out)


def shown(name: str) -> str:
    """What the pages show that an example prints."""
    framework = name.partition("_")[0]
    page = (ROOT / "docs" / f"{framework}.md").read_text(encoding="utf-8")
    return page.split(f"\n$ python examples/{name}.py\n")[1].split("```")[0]


def test_generate_attributes_every_segment(capsys: pytest.CaptureFixture[str]) -> None:
    written = run_example("generate", capsys)
    assert len({author for author, _ in written}) > 1
    assert "19" in written[-1][1]


def test_compare_shows_that_only_together_they_are_right(
    capsys: pytest.CaptureFixture[str],
) -> None:
    *alone, (name, together) = run_example("compare", capsys)
    assert name == "together"
    assert len(alone) > 1
    right = re.compile(r"\b19\b")
    assert right.search(together)
    assert not any(right.search(answer) for _, answer in alone)


def test_tools_reads_reckons_calls_and_answers_from_the_result(
    capsys: pytest.CaptureFixture[str],
) -> None:
    runpy.run_path(str(ROOT / "examples" / "tools.py"), run_name="__main__")
    printed = capsys.readouterr().out
    assert "\norder_lamps({'quantity': 19})\n" in printed
    assert printed.endswith("The price is 57.\n")
    authors = {line.split("|")[0].strip() for line in printed.splitlines() if " | " in line}
    assert authors == {"reader", "reckoner", "clerk"}


def test_structured_answers_are_what_was_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_example("structured", capsys) == [
        ("person", "{'name': 'Anna', 'age': 31, 'city': 'Oslo'}"),
        ("choice", "12"),
        ("pattern", "12 + 7 = 19. The answer is 19."),
    ]


def test_langchain_retrieves_and_reckons() -> None:
    printed = shown("langchain_rag").splitlines()
    assert printed[1].endswith("31 + 25 = 56. The answer is 56.")
    assert printed[3] == "Karen lives in Dublin."


def test_langchain_agent_calls_and_answers() -> None:
    written = pairs(shown("langchain_agent"))
    assert [who for who, _ in written] == ["human", "ai", "tool", "ai"]
    assert written[1][1].endswith("order_lamps({'quantity': 19})")
    assert written[3][1] == "The price is 57."


def test_langchain_structured_answers_are_objects() -> None:
    for method, person in pairs(shown("langchain_structured")):
        assert method in ("json_schema", "function_calling", "json_mode")
        assert person == "Person(name='Anna', age=31, city='Oslo')"


def test_langgraph_keeps_the_thread() -> None:
    printed = shown("langchain_langgraph")
    assert '[order_lamps({"quantity": 12})] The price is 36.' in printed
    assert '[order_lamps({"quantity": 7})] The price is 21.' in printed
    assert printed.endswith("8 messages in the thread\n")


def test_llamaindex_queries_with_sources_and_authors() -> None:
    printed = shown("llamaindex_query_engine").splitlines()
    assert printed[1].endswith("31 + 25 = 56. The answer is 56.")
    assert "Karen lives in Dublin." in printed
    left = [line.split(" | ")[0].strip() for line in printed if " | " in line]
    assert left.count("source") == 6
    assert {"reader", "reckoner"} < set(left)


def test_llamaindex_chat_streams_and_remembers() -> None:
    printed = shown("llamaindex_chat").splitlines()
    assert printed[1] == "assistant | The attic has 7 lamps."
    assert printed[3] == "assistant | Anna lives in Oslo."
    assert printed[4] == "4 messages in the history"


def test_llamaindex_agent_calls_and_answers() -> None:
    written = pairs(shown("llamaindex_agent"))
    assert {"reader", "reckoner", "clerk"} < {who for who, _ in written}
    assert ("tool", "order_lamps({'quantity': 19}) = {\"price\": 57}") in written
    assert written[-1] == ("answer", "The price is 57.")


def test_llamaindex_structured_answers_are_objects_and_grow() -> None:
    written = pairs(shown("llamaindex_structured"))
    person = "Person(name='Anna', age=31, city='Oslo')"
    assert written[:2] == [("default", person), ("function", person)]
    assert len(written) > 4
    assert written[-1] == ("so far", "{'name': 'Anna', 'age': 31, 'city': 'Oslo'}")
