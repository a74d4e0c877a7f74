"""Runs on disk: the journal while it runs, Parquet when it is done."""
