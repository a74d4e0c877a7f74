"""One framework each, behind the base classes of `base`."""
