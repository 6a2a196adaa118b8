"""Archives of pictures, as people pack them."""
