"""What members of a cluster say to each other all the time, without I/O. Spec 7."""
