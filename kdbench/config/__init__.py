"""Configurations: files and overrides in, one checked and frozen tree out. None of it imports torch.

Rooms:

- defaults: The configuration tree: every key, its default and, where a value has rules, the rule.
- names: What a key that does not exist may have meant: the nearest name, or what other projects call the same thing.
- yaml_text: Strict YAML of bounded size and depth: what is wrong with a text is one line, whatever the text is.
- values: Values of a configuration: words of a command line, and conversion to the type of a key.
- node: The node of a configuration: yacs's, with a face for notebooks.
- rules: Rules that a single range or choice does not say: lists of numbers, and keys that depend on each other.
- effects: Which keys of a configuration act only beside others, and which of the given keys act on nothing.
- files: Files and words of a configuration: strict YAML with bases, and overrides, as settings that know where they come
  from.
- teachers: Several teachers of one student, ``DISTILLER.TEACHERS``: each as a configuration of its own, in which it is the
  only one.
- load: Configurations: a yacs tree built from YAML files and overrides, checked as a whole, frozen.
- cohort: Which runs see the same batches and the same teacher; without torch, so that grids can put them together.
- identity: What of a configuration decides over a run's result; without torch, so that grids can name their runs.

Each may import those above it. Nothing here knows a network, a data set or a method but by the catalogue.
"""
