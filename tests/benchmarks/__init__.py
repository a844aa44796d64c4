"""Benchmarks: the uploader beside the tools that one would take otherwise. docs/speed-evidence.md tells how to run them."""
