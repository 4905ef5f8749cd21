"""Questions of one customer or many, answered from vectors with numpy."""
