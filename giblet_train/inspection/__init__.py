"""Looks at runs that have learnt: figures, lesions, the rebuilt film, several runs read as one."""
