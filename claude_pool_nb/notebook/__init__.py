"""What a person touches: the extension, the magics, completion and the live view. Nothing else knows IPython."""
