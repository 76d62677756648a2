"""Read a YAML file and command-line overrides into one frozen `Config`.

What a config is stands in `schema`; `loading.load_config` reads one.
"""
