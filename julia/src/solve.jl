"""
    solve!(sim, parameters; tolerance=1e-8, max_iterations, initial=nothing, low=nothing, check)
        -> state, report

Solve R(u, m) = 0. `parameters` is a NamedTuple (or Dict by Symbol) of arrays, of the whole grid or
of this process's cells; the state is an `Array` of this process's cells, with zero mean where
the model leaves a constant free. `initial` is a state to start from, `low` the smallest
eigenvalue that a solve near by reported.

`max_iterations` reached, or divergence, is told by `report.status`; a wrong shape is a
`DimensionMismatch`, a missing parameter an `ArgumentError`.
"""
function solve!(sim::Simulation, parameters; tolerance::Real=1e-8,
                max_iterations::Integer=default_iterations(sim), initial=nothing, low=nothing,
                check=Returns(nothing))
    set_parameters!(sim, parameters)
    start!(sim, sim.u[1], initial)
    linear(sim.model) || (sim.linearised = false)
    operator = Operator(equations(sim.model), sim.c, linear(sim.model), false)
    report = descend!(sim, operator, lower(sim.model); tolerance, max_iterations, low, check)
    sim.low = report.low
    gauge!(sim, sim.u[1])
    settle!(sim, lower(sim.model))
    linear(sim.model) || (sim.linearised = false)
    return gather(sim, sim.u[1]), report
end

"Drive the residual to zero: by continuation where the unknown has a bound."
descend!(sim, operator, ::Nothing; options...) = iterate!(sim, operator, sim.u; options...)
descend!(sim, operator, ::Bound; low, options...) = continuation!(sim, operator; options...)

"""
    adjoint!(sim, source; state=nothing, parameters=nothing, tolerance=1e-8, max_iterations,
             initial=nothing, low, check) -> gradient, multiplier, report

Solve (dR/du)' lambda = source (dJ/du) at the last state, or the given one, and return
-(dR/dm)' lambda, a NamedTuple of this process's cells, and lambda. The part of the source that
moves nothing, a constant where the model leaves one free, is taken out. `low` is the last solve's
unless given: J and J' have the same eigenvalues.
"""
function adjoint!(sim::Simulation{N,T}, source; state=nothing, parameters=nothing, tolerance::Real=1e-8,
                  max_iterations::Integer=default_iterations(sim), initial=nothing, low=sim.low,
                  check=Returns(nothing)) where {N,T}
    parameters === nothing || set_parameters!(sim, parameters)
    if state !== nothing
        linear(sim.model) || (sim.linearised = false)
        scatter!(sim, sim.u[1], state)
    end
    sim.assembled || throw(ArgumentError("adjoint!: give parameters, or solve! first"))
    linearise!(sim)
    # The last but one iterate is not needed any more.
    load = scatter!(sim, sim.u[2], source)
    gauge!(sim, load)
    c = (; entries=sim.jacobian, source=load)
    operator = Operator(Linear(stencil(sim.model), true), c, true, true)
    start!(sim, sim.multiplier[1], initial)
    initial === nothing || rescale!(sim, operator, sim.multiplier[1])
    report = iterate!(sim, operator, sim.multiplier; tolerance, max_iterations, low, check)
    gauge!(sim, sim.multiplier[1])
    return gradient!(sim), gather(sim, sim.multiplier[1]), report
end

default_iterations(sim) = 1000 * maximum(sim.model.grid.shape)

start!(sim, field, ::Nothing) = fill!(field, 0)
start!(sim, field, initial) = scatter!(sim, field, initial)

"Remove the mean where the model determines u up to a constant only."
function gauge!(sim::Simulation{N,T}, field) where {N,T}
    null_space(sim.model) || return
    own(sim, field) .-= T(average(sim, own(sim, field)))
    exchange!(sim.topology, field)
    return
end

"Set u to its bound in the active set."
settle!(sim, ::Nothing) = nothing
function settle!(sim::Simulation, bound::Bound)
    settled = sim.work[1]
    given = (; u=sim.u[1], sim.c)
    assemble!(sim.kernels, sim.block.own, settled, given, Settled(equation(sim.model), bound))
    own(sim, sim.u[1]) .= own(sim, settled)
    exchange!(sim.topology, sim.u[1])
    return
end

struct Settled{E}
    equation::E
    bound::Bound
end
@inline function (settled::Settled)(out, given, I)
    u = @inbounds given.u[I...]
    r, lowest = settled.equation(given.u, given.c, I), oftype(u, settled.bound.value)
    @inbounds out[I...] = r <= oftype(u, settled.bound.rate) * (lowest - u) ? lowest : u
    return
end

"Scale an earlier multiplier to fit the new source best: the source shrinks with the misfit."
function rescale!(sim::Simulation{N,T}, operator, multiplier) where {N,T}
    r, source = own(sim, sim.work[1]), own(sim, operator.c.source)
    residual!(sim.kernels, sim.block.own, sim.work[1], multiplier, operator.c, operator.f)
    along, square = totals(sim, ((r, s) -> (r + s) * s, r, source), ((r, s) -> (r + s)^2, r, source))
    multiplier .*= T(along / max(square, floatmin(T)))
    return
end

"-(dR/dm)' lambda: Enzyme's reverse of the residual, then of the stages of c, last first."
function gradient!(sim::Simulation)
    seed, swept = sim.work
    fill!(seed, 0)
    own(sim, seed) .= .-own(sim, sim.multiplier[1])
    mbar = zeroed(sim.m)
    vjp!(sim, seed, fill!(swept, 0), mbar)
    return collected(sim, mbar)
end

"The gradient summed over processes, as `Array`s; of fields, the cells of this process."
function collected(sim::Simulation, mbar::NamedTuple{names}) where {names}
    return NamedTuple{names}(map(names) do name
        is_field(sim.model, name) || return global_sum(sim.topology, Array(mbar[name]))
        accumulate!(sim.topology, mbar[name])
        return gather(sim, mbar[name])
    end)
end

"Add (dR/du)' Rbar to ubar and (dR/dm)' Rbar to mbar. Rbar is used up."
function vjp!(sim::Simulation, Rbar, ubar, mbar)
    (; kernels, block, m, c, u, inverse, stages) = sim
    cbar = zeroed(c)
    vjp_residual!(kernels, block.own, inverse, Rbar, u[1], ubar, c, cbar, equations(sim.model))
    stage = zeroed(mbar)
    for (assemble, ranges) in Iterators.reverse(stages)
        is_constant(assemble) && continue
        # Each into an empty array: threads add to it in any order, and two numbers have one sum.
        clear!(stage)
        vjp_assemble!(kernels, ranges, c, cbar, m, stage, assemble)
        foreach((total, part) -> total .+= part, mbar, stage)
    end
    assemble_all!(sim)  # the reverse sweeps ran the stages forward first, on c as it stood
    return
end

"""
    residual(sim, parameters, state)

R(u, m) of this process's cells, as an `Array`: one evaluation.
"""
function residual(sim::Simulation, parameters, state)
    set_parameters!(sim, parameters)
    scatter!(sim, sim.u[1], state)
    sim.linearised &= linear(sim.model)
    residual!(sim.kernels, sim.block.own, sim.work[1], sim.u[1], sim.c, equations(sim.model))
    return gather(sim, sim.work[1])
end

"""
    vjp(sim, parameters, state, direction) -> ubar, mbar

(dR/du)' direction and (dR/dm)' direction by one reverse sweep of Enzyme.
"""
function vjp(sim::Simulation, parameters, state, direction)
    set_parameters!(sim, parameters)
    scatter!(sim, sim.u[1], state)
    sim.linearised &= linear(sim.model)
    seed, ubar = sim.work
    fill!(seed, 0)
    copyto!(own(sim, seed), direction)
    mbar = zeroed(sim.m)
    vjp!(sim, seed, fill!(ubar, 0), mbar)
    accumulate!(sim.topology, ubar)
    return gather(sim, ubar), collected(sim, mbar)
end
