"""
Many processes: a grid spread by ImplicitGlobalGrid over a Cartesian topology of MPI ranks, and
the loop in which resident ranks take commands.
"""
module AdjointGPURanksExt

using AdjointGPU, HDF5, ImplicitGlobalGrid, JSON, MPI
using AdjointGPU: Block, Topology
using Sockets: connect, gethostname

include("topology.jl")
include("worker.jl")

end
