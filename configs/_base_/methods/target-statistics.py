# Target images update the running statistics of BatchNorm, without any loss: what every other
# method with a target pass must be compared with.
terms = dict(statistics=dict(type='TargetStatistics'))
