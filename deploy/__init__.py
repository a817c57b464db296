"""Install fer-edge and a model on a board over ssh, test it there, and run it as a service."""

if __name__ != "fer_edge.deploy":
    raise ImportError(f"import fer_edge.deploy, not {__name__}: install the project with pip install -e .")
