"""What stored runs mean: read once, judged, compared, and shown on pages."""
