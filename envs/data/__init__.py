"""Image sets: where they come from and how they live on the device."""
