"""The model: what is wanted (flow), what is observed (status), and their JSON Schema."""
