"""Plugins that come with the framework, one file each."""
