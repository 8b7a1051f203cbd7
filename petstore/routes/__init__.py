"""The handlers, a module per resource. What more than one of them has to know stands in the modules beside this folder."""
