"""Rules that find what is wrong with a run: pure functions over one `Case`, each naming one cause or none.

They are grouped by what they look at: `rate` the learning rate, `scale` the losses' units, `learning` the training
curve, `heldout` validation, `reach` the criteria, `pace` the seconds of a step, `misaligned` film and brains,
`ending` how it ended. `contract.diagnosis` asks them all and puts the causes in order.
"""
