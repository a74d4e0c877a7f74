"""One framework each, behind the protocols of `base`."""
