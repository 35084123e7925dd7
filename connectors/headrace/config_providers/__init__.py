"""The config providers that come with headrace: values of placeholders in configurations."""
