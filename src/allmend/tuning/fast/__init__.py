"""The fast path of training: a decoder's layers with a backward pass written out by hand.

Nothing here changes what is computed; `recognise` takes a model apart only where trying it gives what the model's
own forward pass gives, and names the reason where it does not.

kernels.cpp  elementwise chains in one pass over memory each, compiled where a C++ compiler is there
native       compiles and calls them
chains       the same functions in torch: the fallback, and what the compiled ones are held equal to
bordered     a frozen weight with its LoRA as a border: one matrix, four products
blocks       which queries attend to which keys in a pack
attend       attention over those blocks, forward and backward
layer        one decoder layer, forward and backward
stack        all of them as one autograd function
recognise    from a transformers model to a stack, or the reason why not
"""
