"""Line charts drawn with braille characters."""
