"""Code, files and the habits around them."""
