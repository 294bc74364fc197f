"""The pieces of the main screen: each draws one frozen view and says what the user did by a message."""
