"""Stands where the Python product's package stood, for callers that still name it: the membridge binary does the work."""
