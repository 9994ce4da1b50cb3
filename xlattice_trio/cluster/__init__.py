"""What a node does as one of a cluster: its links, and how rosters come into force. Spec 3.7 to 3.9, 7."""
