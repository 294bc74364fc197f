"""Colours, text formatting and layout helpers of the dashboard."""
