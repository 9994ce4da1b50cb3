"""What a node serves: the plug-in contract is in `registry`. Spec 8."""
