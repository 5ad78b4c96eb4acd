"""The exercises, one module per chapter. How to write them: minilm/lab/AUTHORING.md."""
