"""The exercises, chNN_part.py by chapter. How to write them: minilm/lab/AUTHORING.md."""
