"""Reading and writing files safely: one open, one write, strict parsers for hostile formats."""
