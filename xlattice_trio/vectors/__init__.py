"""Known answers for every part of the protocol that bytes decide, made and checked. `spec/vectors/FORMAT.md`."""
