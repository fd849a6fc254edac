"""Trains the bundled models, from generated data only.

`python -m training all` writes them to `specfuse_core/bundled/`. The engine does not need this
package, and this package does not import the engine.

    lexicon      words                                splits      training, validation and test
    facts        facts, and how to state and ask them prompts     prompts with a context
    reading      questions that a context answers     reckoning   sums, differences, comparisons
    composite    reading and reckoning in one answer  forms       forms of composite questions
    calls        tool calls and JSON                  errands     reading, reckoning and a call
    tools        tools, and how to ask for them       values      values of tool arguments
    sample       a conversation with its answers      drills      lookup without words
    frameworks   prompts of LangChain and LlamaIndex  templates   a chat template per model
    tokenizer    a byte-level BPE per model           recipe      data and settings per model
    train        the training loop                    evaluate    exact match on new questions
    produce      train, measure and write a model     card        the model card
"""
