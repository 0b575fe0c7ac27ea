# Pseudo-transient continuation, for residuals with a bound on u:
#
#     (sigma - dR/du) du = R(u)  in the cells with u > bound or R > 0,   u <- max(u + du, bound),
#
# implicit Euler steps of length 1/sigma, one Newton iteration each, that grow as the mean residual
# falls. The same as solvers/continuation.py, which says more; the matrices of the linear systems are
# stored here, and pseudo-transient iterations solve them.
# (Kelley, Liao, Qi, Chu, Reese and Winton 2008, SIAM J. Numer. Anal. 46, 3071.)

const STEPS = 1000          # tried, at most
const ETA = 0.03            # ||R + (dR/du - sigma) du|| over ||R||
const LONGEST = 50          # iterations of a step, over the cells along the longest axis
const FAR = 1e4             # residual, over the first, at which they are given up: sigma is too small
const MEAN_RISE = 2.0       # of the mean residual in a step; where it is more, it is tried again
const NEAR = 1e-5           # mean residual, over its scale, to which it may rise in any case
const SHORTER = 0.25        # than a step that failed
const TURN = 1.05           # rise after a fall that shortens steps as much
const GROWTH = 1.5          # of steps, over the fall of the residual;
const MOST = 100.0          # at most, in one
const SMALLEST_SHIFT, LARGEST_SHIFT = 1e-15, 1e9    # sigma over the bound's rate

"""
    continuation!(sim, operator; tolerance, max_iterations, check) -> Report

Drive the residual of a model with a bound to zero from the state `sim.u[1]`, in place. It stops as
`iterate!` does, or `:stagnated`; iterations are those of all steps together.
"""
function continuation!(sim::Simulation{N,T}, operator::Operator; tolerance::Real,
                       max_iterations::Integer, check) where {N,T}
    start = time()
    (; kernels, block, u, multiplier, jacobian) = sim
    bound = lower(sim.model)
    # The last but one iterate and the multiplier are free: right-hand side and du.
    system = (; entries=jacobian, source=u[2])
    linear_system = Operator(Linear(stencil(sim.model), false), system, true, false)
    limit = LONGEST * maximum(block.grid.shape)
    u[1] .= max.(u[1], T(bound.value))
    fill!(u[2], 0)
    _, scale, _, _ = sizes(sim, operator, u[2], u[1])
    mean, residual, _, _ = sizes(sim, operator, u[1], u[1])
    iterations, tried, change, low, high = 0, 0, residual == 0 ? 0.0 : Inf, nothing, NaN
    ratio, gained, sigma, status = 1.0, true, NaN, :running
    history = Tuple{Float64,Float64}[]
    while true
        sweep!(sim)
        floor = eps(T) * only(peaks(sim, ((u, d) -> abs(u * d), own(sim, u[1]), own(sim, jacobian[1]))))
        if tried == 0
            # Where u = 0 is another solution, the largest term in R.
            scale = max(scale > 0 ? scale : floor / eps(T), TINY)
            # From far away steps of the time in which R changes; near by longer ones.
            sigma = clamp(mean / scale, SMALLEST_SHIFT, 1.0)
            push!(history, (0.0, residual / scale))
        end
        if !isfinite(mean)
            status = :diverged
        elseif residual <= tolerance * scale && change <= ERROR * tolerance
            status = :converged
        elseif iterations >= max_iterations
            status = :max_iterations
        elseif residual <= 100floor && !gained
            status = residual <= tolerance * scale ? :converged : :round_off
        elseif tried == STEPS || sigma > LARGEST_SHIFT
            status = :stagnated
        end
        status === :running || break
        tried += 1
        assemble!(kernels, block.own, system, (; u=u[1], r=sim.inverse),
                  Implicit(bound, sigma * bound.rate))
        fill!(multiplier[1], 0)
        inner = try
            sim.linearised = true   # the entries are the system's
            iterate!(sim, linear_system, multiplier; tolerance=ETA, low, most=FAR,
                     max_iterations=min(limit, max_iterations - iterations),
                     check=(n, _) -> check(iterations + n, residual / scale))
        finally
            sim.linearised = false
        end
        iterations += inner.iterations
        (; low, high) = inner
        u[2] .= max.(u[1] .+ multiplier[1], T(bound.value))
        after, largest, difference, size = sizes(sim, operator, u[2], u[1])
        if !(after <= MEAN_RISE * max(mean, NEAR * scale))
            sigma /= SHORTER
            low = nothing
            gained = false
            continue
        end
        turned = ratio < 1 && after > TURN * mean
        ratio = after / mean
        sigma = max(sigma * (turned ? 1 / SHORTER : max(ratio / GROWTH, 1 / MOST)), SMALLEST_SHIFT)
        reverse!(u)
        system = merge(system, (; source=u[2]))
        linear_system = Operator(linear_system.f, system, true, false)
        change = difference * largest / max(residual, TINY) / max(size, TINY)
        gained = largest <= residual / 2
        mean, residual = after, largest
        push!(history, (iterations, residual / scale))
    end
    last(history)[1] < iterations && push!(history, (iterations, residual / scale))
    if low === nothing
        high = precondition!(sim, false)
        low = slowest(sim, high)
    end
    wall = time() - start
    return Report("continuation", ended(status, residual / scale), iterations, residual / scale, wall,
                  iterations * traffic(sim, system) / wall, low, high, table(history))
end

"The mean and the largest |R|, the largest change of u, and u itself."
function sizes(sim::Simulation, operator, u, before)
    r = sim.work[1]
    residual!(sim.kernels, sim.block.own, r, u, operator.c, operator.f)
    u, before, r = own(sim, u), own(sim, before), own(sim, r)
    mean = average(sim, r, abs)
    return mean, peaks(sim, (abs, r), ((u, b) -> abs(u - b), u, before), (abs, u))...
end

"The matrix of a step and its right-hand side from the entries of dR/du and R; cells held at the
bound do not move."
struct Implicit
    bound::Bound
    shift::Float64
end
@inline function (step::Implicit)(out, given, I)
    u, r = @inbounds given.u[I...], given.r[I...]
    if (u > oftype(u, step.bound.value)) | (r > 0)
        @inbounds out.entries[1][I...] -= oftype(u, step.shift)
        @inbounds out.source[I...] = -r
    else
        diagonal!(out.entries, -one(u), I)
        @inbounds out.source[I...] = 0
    end
    return
end
