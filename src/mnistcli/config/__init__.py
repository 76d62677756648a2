"""Read a YAML file and command-line overrides into one frozen `Config`.

`schema` defines a config; `loading.load_config` reads one.
"""
