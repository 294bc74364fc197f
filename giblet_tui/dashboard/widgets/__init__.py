"""Panes of the main screen: each draws one frozen view and posts messages for user actions."""
