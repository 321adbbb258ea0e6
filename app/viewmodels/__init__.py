"""State for the views: QtCore only. Of the engine it knows nothing but the protocol."""
