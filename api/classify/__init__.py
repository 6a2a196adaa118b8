"""POST /classify: pictures and any class names come in, ranked names go out."""
