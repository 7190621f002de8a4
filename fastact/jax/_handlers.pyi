capsules: dict[str, object]  # a PyCapsule for each handler
