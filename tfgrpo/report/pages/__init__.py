"""Pages: one HTML file each, readable offline, in which every text is shown and never run."""
