"""What a person may set for the whole app: schema, file."""
