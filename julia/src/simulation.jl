"""
    Simulation(model; backend=:Threads, T=Float64, topology=Single())

A model with its arrays on a device (`:Threads`, `:CUDA` or `:AMDGPU`), in precision `T`. It is
overwritten by each solve, and remembers only what saves work: coefficients and Jacobian of the
last parameters.
"""
mutable struct Simulation{N,T,M<:Model{N},K<:Kernels,P<:Topology,A,C,F,J}
    const model::M
    const kernels::K
    const topology::P
    const block::Block{N}
    const stages::Vector{Pair}
    const m::F                  # parameters; cell fields with their outer layers
    const c::C                  # coefficients
    const u::Vector{A}          # the state and its last but one iterate
    const multiplier::Vector{A}
    const inverse::A            # 1/PC
    const work::NTuple{2,A}
    const jacobian::J           # see jacobian.jl
    assembled::Bool             # whether c is that of m
    linearised::Bool            # whether the Jacobian is that of c and u[1]
    low::Union{Nothing,Float64} # smallest eigenvalue that the last solve found
end

function Simulation(model::Model{N}; backend::Symbol=:Threads, T::Type=Float64,
                    topology::Topology=Single()) where {N}
    kernels = Kernels{backend,T,N}()
    applicable(zero_field, kernels, (1,)) || throw(ArgumentError(
        "there is no backend $backend of $T: expected Threads, or CUDA or AMDGPU after `using` it"))
    local_block = block(topology, model.grid)
    field() = zero_field(kernels, padded(local_block))
    m = map(kind -> kind === :cells ? field() : zero_field(kernels, (kind,)), parameters(model))
    c = coefficients(model, field)
    return Simulation(model, kernels, topology, local_block, assembly(model, T, local_block), m, c,
                      [field(), field()], [field(), field()], field(), (field(), field()),
                      map(_ -> field(), stencil(model)), false, false, nothing)
end

Simulation(model::M, kernels::K, topology::P, block::Block{N}, stages, m::F, c::C, u::Vector{A},
           multiplier, inverse, work, jacobian::J, flags...) where {N,M,K,P,F,C,A,J} =
    Simulation{N,eltype(A),M,K,P,A,C,F,J}(model, kernels, topology, block, stages, m, c, u,
                                          multiplier, inverse, work, jacobian, flags...)

own(sim::Simulation, field) = view(field, sim.block.own...)

"A scratch copy of a field-like argument's shape: NamedTuples and tuples of arrays, zeroed."
zeroed(x::AbstractArray) = fill!(similar(x), 0)
zeroed(x::Union{Tuple,NamedTuple}) = map(zeroed, x)

clear!(x::AbstractArray) = fill!(x, 0)
clear!(x::Union{Tuple,NamedTuple}) = foreach(clear!, x)

"""
    scatter!(sim, field, values)

Put `values`, of the whole grid or of this process's cells, into a field.
"""
function scatter!(sim::Simulation, field, values)
    wanted = length.(sim.block.own)
    if size(values) == wanted
        copyto!(own(sim, field), values)
    elseif size(values) == sim.model.grid.shape
        copyto!(own(sim, field), view(values, whole(sim.block)...))
    else
        throw(DimensionMismatch("found an array of $(join(size(values), " x ")) cells, " *
                                "expected $(join(sim.model.grid.shape, " x "))"))
    end
    exchange!(sim.topology, field)
    return field
end

"This process's cells of a field, as an `Array`."
gather(sim::Simulation, field) = Array(own(sim, field))

"Take over parameters; what was computed from others is out of date."
function set_parameters!(sim::Simulation{N,T}, given) where {N,T}
    for name in keys(sim.m)
        haskey(given, name) || throw(ArgumentError("parameter $name is not given"))
        values, field = given[name], sim.m[name]
        if is_field(sim.model, name)
            scatter!(sim, sim.work[1], values)
            same = sim.assembled && own(sim, sim.work[1]) == own(sim, field)
            all_same, = global_max(sim.topology, (same ? 0.0 : 1.0,))
            all_same == 0 && continue
            copyto!(field, sim.work[1])
        else
            size(values) == size(field) || throw(DimensionMismatch(
                "$name: found $(length(values)) values, expected $(length(field))"))
            fresh = copyto!(similar(field), T.(values))
            sim.assembled && fresh == field && continue
            copyto!(field, fresh)
        end
        sim.assembled = false
    end
    sim.assembled && return
    assemble_all!(sim)
    sim.assembled, sim.linearised = true, false
    return
end

function assemble_all!(sim::Simulation)
    clear!(sim.c)
    for (assemble, ranges) in sim.stages
        assemble!(sim.kernels, ranges, sim.c, sim.m, assemble)
    end
    return
end
