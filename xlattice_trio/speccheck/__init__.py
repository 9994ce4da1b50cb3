"""Reads the tables and requirements of the specification and holds them against the code.

    tables.py        markdown -> tables, requirements, sections; every row with its file and line
    code.py          the same tables as the code has them, every row with its file and line
    citations.py     which requirements and sections the sources, tests and vectors cite
    requirements.py  requirements.toml: made from the text and from what people say, and held against both
    check.py         the comparison, both ways
    statements.py    the code that a citation is about, and whether a run of the tests executed it
    trace.py         every requirement with its code, tests and vectors
    page.py          a trace as one page, with the specification's text; page_style.py is how it looks
    decoder.py       a second decoder, made from the tables alone: shares no code with `wire`

`tables` and `decoder` import nothing of the protocol, so that the second decoder stays a second opinion.
"""
