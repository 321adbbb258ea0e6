"""What a conversation is: frozen values that the engine, the store and the window share. Standard library only."""
