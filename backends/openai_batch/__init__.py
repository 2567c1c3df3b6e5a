"""The Batch API: jobs at half price that no crash loses or pays for twice."""
