"""Reads the tables and requirements of the specification and holds them against the code.

    tables.py     markdown -> tables, requirements, sections; every row with its file and line
    code.py       the same tables as the code has them, every row with its file and line
    citations.py  which requirements and sections the sources cite
    check.py      the comparison, both ways
    decoder.py    a second decoder, made from the tables alone: shares no code with `wire`

`tables` and `decoder` import nothing of the protocol, so that the second decoder stays a second opinion.
"""
