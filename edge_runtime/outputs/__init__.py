"""Where labeled frames go: text, video files, MQTT and the preview page."""
