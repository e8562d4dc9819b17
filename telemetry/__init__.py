"""What the processes of Tempomesh say of themselves."""
