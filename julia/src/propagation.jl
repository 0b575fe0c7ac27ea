# Explicit models run: all steps, and the way back from states that are kept.

"An explicit model with its arrays on a device: the counterpart of `Simulation`."
mutable struct Propagation{N,T,M<:Explicit{N},K<:Kernels,F,C,X}
    const model::M
    const kernels::K
    const block::Block{N}
    const assembly::Vector{Pair}
    const m::F
    const c::C
    const x::X
    const kept::Vector{X}   # states from which segments begin
    source::Union{Nothing,Array{T}}
    marched::Bool           # whether `kept` is of m and the source
end

function Simulation(model::Explicit{N}; backend::Symbol=:Threads, T::Type=Float64) where {N}
    kernels = Kernels{backend,T,N}()
    applicable(zero_field, kernels, (1,)) || throw(ArgumentError(
        "there is no backend $backend of $T: expected Threads, or CUDA or AMDGPU after `using` it"))
    block = Block(model.grid)
    field() = zero_field(kernels, padded(block))
    m, c, x = map(_ -> field(), parameters(model)), coefficients(model, field), state(model, field)
    return Propagation{N,T,typeof(model),typeof(kernels),typeof(m),typeof(c),typeof(x)}(
        model, kernels, block, assembly(model, T, block), m, c, x, typeof(x)[], nothing, false)
end

own(sim::Propagation, field) = view(field, sim.block.own...)

copy_state(x::AbstractArray) = copy(x)
copy_state(x::Union{Tuple,NamedTuple}) = map(copy_state, x)
copy_state!(to::AbstractArray, x) = copyto!(to, x)
copy_state!(to::Union{Tuple,NamedTuple}, x) = foreach(copy_state!, to, x)

"Take over parameters."
function set_parameters!(sim::Propagation{N,T}, given) where {N,T}
    f = forcing(sim.model)
    for name in (keys(sim.m)..., (f === nothing ? () : (:source,))...)
        haskey(given, name) || throw(ArgumentError("parameter $name is not given"))
        values = given[name]
        size_wanted = name === :source ? source_size(sim.model.grid, f, times(sim.model)) : sim.model.grid.shape
        size(values) == size_wanted || throw(DimensionMismatch(
            "$name: found an array of $(join(size(values), " x ")), expected $(join(size_wanted, " x "))"))
        if name === :source
            sim.marched &= sim.source == values
            sim.marched || (sim.source = Array{T}(values))
        else
            sim.marched &= Array(own(sim, sim.m[name])) == values
            copyto!(own(sim, sim.m[name]), T.(values))
        end
    end
    clear!(sim.c)
    for (stage, ranges) in sim.assembly
        assemble!(sim.kernels, ranges, sim.c, sim.m, stage)
    end
    return
end

"Put the forcing of interval k into `c.load`."
function load!(sim::Propagation, k)
    f = forcing(sim.model)
    f === nothing && return
    if f.cells === nothing
        copyto!(own(sim, sim.c.load), Array(selectdim(sim.source, ndims(sim.source), k)))
    else
        spread = zeros(eltype(sim.source), sim.model.grid.shape)
        for (n, cell) in enumerate(f.cells)
            spread[cell] += f.amount * sim.source[n, k]
        end
        copyto!(own(sim, sim.c.load), spread)
    end
    return
end

"The transpose of `load!`: clears the load's derivatives."
function unload!(sim::Propagation, sourcebar, loadbar, k)
    f = forcing(sim.model)
    if f !== nothing
        here = Array(own(sim, loadbar))
        if f.cells === nothing
            selectdim(sourcebar, ndims(sourcebar), k) .= here
        else
            sourcebar[:, k] .= f.amount .* here[f.cells]
        end
    end
    fill!(loadbar, 0)
    return
end

function step!(sim::Propagation, x)
    for (stage, ranges) in stages(sim.model, sim.block)
        assemble!(sim.kernels, ranges, x, sim.c, stage)
    end
    return
end

segment(times::Times) = cld(times.steps, times.checkpoints)

"""
    solve!(sim, parameters; check) -> state, report

All steps: the unknown at the start and at the ends of the intervals, time last. There is nothing to
iterate: other options of a solve are taken, and not used.
"""
function solve!(sim::Propagation{N,T}, parameters; check=Returns(nothing), unused...) where {N,T}
    begun = time()
    set_parameters!(sim, parameters)
    (; model, x, kept) = sim
    (; steps, every) = times(model)
    u = Array{T}(undef, model.grid.shape..., intervals(times(model)) + 1)
    save(k) = copyto!(selectdim(u, N + 1, k), Array(own(sim, observed(model, x))))
    empty!(kept)
    initial_state!(model, sim, x, sim.m)
    save(1)
    for n in 0:steps-1
        n % segment(times(model)) == 0 && push!(kept, copy_state(x))
        n % every == 0 && load!(sim, n ÷ every + 1)
        step!(sim, x)
        (n + 1) % every == 0 && (save((n + 1) ÷ every + 1); check(n + 1, 0.0))
    end
    sim.marched = true
    status = all(isfinite, own(sim, observed(model, x))) ? :converged : :diverged
    return u, explicit_report(sim, status, time() - begun, 2fields_in(x) + fields_in(sim.c))
end

"""
    adjoint!(sim, source; parameters, check) -> gradient, multiplier, report

(du/dm)' source, back through the steps; each segment between states that are kept is run once
more. The multiplier is -source, R being u(m) - u.
"""
function adjoint!(sim::Propagation{N,T}, source; parameters=nothing, check=Returns(nothing),
                  unused...) where {N,T}
    parameters === nothing || set_parameters!(sim, parameters)
    given = something(parameters, merge(map(f -> Array(own(sim, f)), sim.m), (; sim.source)))
    sim.marched || solve!(sim, given; check)
    begun = time()
    (; model, kernels, block, x, c, m) = sim
    (; steps, every) = times(model)
    ubar(k) = selectdim(source, N + 1, k)
    xbar, cbar, mbar = zeroed(x), zeroed(c), zeroed(m)
    sourcebar = sim.source === nothing ? nothing : zero(sim.source)
    backward = transposed(model, block)
    room = typeof(x)[]
    finish = steps
    for first in reverse(0:segment(times(model)):steps-1)
        copy_state!(x, sim.kept[first ÷ segment(times(model))+1])
        for n in first:finish
            at = n - first + 1
            length(room) < at ? push!(room, copy_state(x)) : copy_state!(room[at], x)
            n == finish && break
            (n == first || n % every == 0) && load!(sim, n ÷ every + 1)
            step!(sim, x)
        end
        for n in reverse(first:finish-1)
            (n + 1) % every == 0 && add!(sim, observed(model, xbar), ubar((n + 1) ÷ every + 1))
            (n + 1) % every == 0 || n == finish - 1 ? load!(sim, n ÷ every + 1) : nothing
            states = seen(model, room[n-first+1], room[n-first+2], c)
            for (stage, ranges) in backward
                assemble!(kernels, ranges, (; x=xbar, c=cbar), states, stage)
            end
            if n % every == 0
                unload!(sim, sourcebar, cbar.load, n ÷ every + 1)
                check(n, 0.0)
            end
        end
        finish = first
    end
    add_start!(sim, mbar, initial_state_back!(model, sim, xbar, cbar, m), ubar(1))
    part = zeroed(mbar)
    for (stage, ranges) in Iterators.reverse(sim.assembly)
        clear!(part)   # as in `vjp!`
        vjp_assemble!(kernels, ranges, c, cbar, m, part, stage)
        foreach((total, part) -> total .+= part, mbar, part)
    end
    gradient = map(field -> Array(own(sim, field)), mbar)
    sourcebar === nothing || (gradient = (; gradient..., source=sourcebar))
    moved = 5fields_in(x) + 4fields_in(c)
    return gradient, .-source, explicit_report(sim, :converged, time() - begun, moved)
end

"Add to mbar the derivatives through the initial state."
function add_start!(sim::Propagation, mbar, started, ubar)
    for (name, field) in pairs(started)
        mbar[name] .+= field
        add!(sim, mbar[name], ubar)
    end
    return
end

"Add values on the host to a field."
function add!(sim::Propagation, field, values)
    cells = own(sim, field)
    cells .+= copyto!(similar(cells), Array(values))
    return
end

function explicit_report(sim::Propagation{N,T}, status, wall, fields) where {N,T}
    (; steps) = times(sim.model)
    moved = fields * prod(sim.model.grid.shape) * sizeof(T)
    return Report("explicit", status, steps, 0.0, wall, steps * moved / wall, NaN, NaN, [Float64(steps) 0.0])
end
