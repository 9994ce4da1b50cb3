"""What tests of this package, and of programs that use it, need: fixed identities, and more to come."""
