"""What tests of this package, and of programs that use it, need.

Fixed identities, strategies for messages and the edges of their fields; a second maker of the messages, the attacker
who uses it, pairs that are stepped by hand, and a network in memory.
"""
