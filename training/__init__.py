"""Makes the bundled models, from nothing but the generators in this package.

`python -m training all` writes them into `specfuse_core/bundled/`. Nothing here is needed to run
the engine, and nothing here imports it.

    lexicon      the words                        splits      what is held out of training
    facts        what can be said about them      prompts     how people send a context
    reading      questions a context answers      reckoning   sums, differences, comparisons
    composite    read first, then reckon          forms       the questions of composites
    sample       a conversation with its answers  drills      looking things up, without words
    tokenizer    a byte-level BPE per model       templates   a chat template per model
    recipe       who is trained on what           train       the loop
    evaluate     exact match on held-out questions
"""
