"""
Discrete PDE models on a regular grid, their steady states by accelerated pseudo-transient
iteration, and exact gradients by the discrete adjoint, on CPU threads and GPUs.

    using AdjointGPU
    grid  = Grid((255, 127), (2.0, 1.0); origin=(-1.0, 0.0))             # (x, y)
    model = Darcy(grid; wells=[Well((-0.6, 0.45), 1.0), Well((0.6, 0.45), -1.0)])
    sim   = Simulation(model)
    state, report = solve!(sim, (; permeability=ones(255, 127)))
    gradient, multiplier, report = adjoint!(sim, state .- 1.0)           # dJ/dp = p - 1

Kernels are ParallelStencil's, derivatives Enzyme's. `using CUDA` or `using AMDGPU` brings the
backend of that name; `using MPI, ImplicitGlobalGrid, HDF5, JSON` brings many ranks.
"""
module AdjointGPU

# Enzyme first: ParallelStencil's extension for it is loaded on the way.
using Enzyme
using ParallelStencil

export Grid, ChannelFlow, Darcy, Diffusion, Forcing, Ice, Sound, Step, Water, Wave, Well, Simulation,
    Report, solve!, adjoint!

include("grid.jl")
include("sides.jl")
include("topology.jl")
include("kernels.jl")
include("models.jl")
include("load.jl")
include("simulation.jl")
include("jacobian.jl")
include("pseudo_transient.jl")
include("continuation.jl")
include("solve.jl")
include("propagation.jl")

@generate_kernels Threads

# Of the extensions: with MPI, ImplicitGlobalGrid, HDF5 and JSON,
function cartesian end
function serve end
# and with PythonCall.
function python_simulation end
function python_run end
function python_residual end
function python_vjp end
function python_error end
function python_device end

end
