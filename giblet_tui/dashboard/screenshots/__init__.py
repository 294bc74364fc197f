"""Export of the dashboard as an SVG or PNG image."""
