"""From images to scores."""
